"""Small worlds to run the pipeline in: a web on loopback, with planted trouble of known truth.

draw, captions    what is seen and what is said of it
wiki, crawl       the sources, in the formats of the real ones
plant, leaks      the trouble, each kind with what must become of it
demo              a world of drawings; real: a world of photographs, from a folder of data
server            serves either, misbehaving where `routes.json` says so
"""

from jobs.world.demo import make_world
from jobs.world.folder import World
from jobs.world.real import make_real
from jobs.world.server import serve

__all__ = ["World", "make_real", "make_world", "serve"]
