"""The benchmarks that README quotes: ratios against a baseline measured in the same run, never timed tests."""
