"""The script that releases a job: see release.lua."""

from typing import Final

from spokes.core.redis.scripts import read_script

RELEASE: Final = read_script(__file__, "release.lua")
