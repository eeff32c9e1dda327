"""What this package costs, measured against DESIGN's budgets and against its peers. Start at run.py and README.md."""
