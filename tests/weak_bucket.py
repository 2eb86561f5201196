"""WeakBucket: a folder that ignores preconditions, all of them or some, as several S3 servers do."""

import random


class WeakBucket:
    """Another Bucket, less what it promises of `if_absent` and `if_match`."""

    def __init__(self, bucket, ignored=1.0):
        self._bucket = bucket
        self._ignored = ignored

    def __getattr__(self, name):
        return getattr(self._bucket, name)

    def put(self, key, data, *, if_absent=False, if_match=None, fence=None, wanted=None):
        if random.random() < self._ignored:
            if_absent, if_match = False, None
        return self._bucket.put(key, data, if_absent=if_absent, if_match=if_match, fence=fence)
