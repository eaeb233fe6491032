from .build import ReportSettings as ReportSettings
from .build import write_report as write_report
