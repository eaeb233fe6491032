"""Shards with provenance, markers, audit and export."""

from augcond.store.audit import Audit, audit_run
from augcond.store.disk import clean_run, spare_files
from augcond.store.export import ExportFormat, export_run
from augcond.store.folder import RunFolder
from augcond.store.plans import RunPlan
from augcond.store.rejection import reject_images, rejected_keys, restore_images
from augcond.store.shards import GenerationSettings, ShardRow
from augcond.store.status import RunStatus, run_status

__all__ = [
    "Audit",
    "ExportFormat",
    "GenerationSettings",
    "RunFolder",
    "RunPlan",
    "RunStatus",
    "ShardRow",
    "audit_run",
    "clean_run",
    "export_run",
    "reject_images",
    "rejected_keys",
    "restore_images",
    "run_status",
    "spare_files",
]
