"""Airflow's task logs in Loki: sent while the task runs, and read from there by Airflow's UI.

* config: [logging] logging_config_class
* remote: Airflow's interface: processors, upload, stream
* sender: the thread that sends new lines of the log files
* log_file: the unsent lines of one log file
* reader: an attempt's lines in order, page by page
* handler: Airflow's log handler, without duplicate lines
* identity: the task attempt in a log file's path
* loki: Loki's HTTP API
"""
