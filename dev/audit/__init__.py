"""Audit of third-party packages in the images: bills of materials, licences, vulnerabilities."""
