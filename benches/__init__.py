"""What tractor costs, each figure beside a floor that is measured in the same run.

``python -m benches`` runs every row; ``python -m benches --help`` tells the options.
"""
