"""Python runs this when it starts with this folder on PYTHONPATH: so worker processes shift seeds too."""

import os
import traceback

if "LRTEACH_SEED_SHIFT" in os.environ:
    try:
        from seed_shift import SHIFT, install

        install(int(os.environ[SHIFT]))
    except BaseException:  # Python would go on, with the seeds of the book
        traceback.print_exc()
        os._exit(70)
