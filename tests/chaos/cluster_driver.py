"""The command `wit` of a walk that ends before the trainings.

Killed trainings are compared by `tests.chaos.train`; here the corpus is what matters.
"""

from jobs import walk
from jobs.__main__ import main

walk.STAGES = walk.STAGES[: [stage.verb for stage in walk.STAGES].index("audit") + 1]

if __name__ == "__main__":
    main()
