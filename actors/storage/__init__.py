"""Where datasets live: one Bucket over S3 (the only user of boto3) and one over a folder."""
