"""Airflow's task logs in Loki: sent while the task runs, and read from there by Airflow's own UI.

* config: what [logging] logging_config_class names
* remote: what Airflow calls: processors, upload, stream
* sender: the thread that sends what the log files gain
* log_file: the lines of one log file that Loki does not have yet
* reader: an attempt's lines in order, page by page
* handler: Airflow's log handler, which shows each line once
* identity: what a log file's path says about the task
* loki: Loki's HTTP API
"""
