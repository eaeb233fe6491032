from .build import ReportSettings as ReportSettings
from .build import write_report as write_report
from .comparison import write_comparison as write_comparison
