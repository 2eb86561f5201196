"""Every point at which a test makes a process die, by the work in which it is passed: the one list of them.

Numbers are occurrences within one process. A point that a process passes once is tried in three, one after the other.
"""

MANY = (1, 2, 5)
ONCE = (1,)

RUN = {
    "rewrite.part": (1, 2),  # a page of the table as used is put
    "manifest.put": ONCE,  # about to promise
    "manifest.done": ONCE,  # promised, nothing made
    "lease.claimed": ONCE,  # claimed, nothing done with it
    "worker.start": MANY,  # a shard is given out
    "worker.batch": MANY,  # a batch goes on the device
    "worker.generated": MANY,  # all of a shard is generated, the upload goes on
    "worker.report": MANY,  # the data is stored, nobody knows
    "writer.add": MANY,  # an image is about to be encoded
    "writer.member": MANY,  # an image is in the tar
    "writer.finish": MANY,  # the last image is in the tar, its end is not
    "upload.part": MANY,  # a piece of the tar is stored
    "upload.complete": MANY,  # about to become a file
    "upload.completed": MANY,  # a file that nothing names
    "commit.put": MANY,  # about to commit
    "commit.done": MANY,  # committed, the driver has not noted it
    "index.put": ONCE,  # all there but the index
    "index.done": ONCE,  # complete, the lease not given back
}
RETRY = {
    "index.removed": ONCE,  # the index is gone, nothing is changed
    "replace.put": (1, 2),  # about to put new rows in the place of failed ones
    "replace.done": (1, 2),  # replaced, the driver has not noted it
}
CLEAN = {
    "clean.remove": (1, 2),  # about to remove a file
}

REFUSED = {
    "manifest.withdrawn": ONCE,  # refused by its workers, nothing is promised any more
}

AGAIN = {"manifest.put", "lease.claimed", "index.put"}
"""Of those that a process passes once, the ones that the next process passes, too."""
