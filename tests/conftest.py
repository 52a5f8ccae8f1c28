"""For every test: a busy computer is no reason to fail one that draws its inputs, and Ctrl-C ends
the programs that a test starts, also where the tests themselves run in the background.
"""

import signal

from hypothesis import HealthCheck, settings

settings.register_profile("any-load", deadline=None, suppress_health_check=[HealthCheck.too_slow])
# What a mutation test or a command line asked for stays.
if settings.get_current_profile_name() == "default":
    settings.load_profile("any-load")

# A shell starts what it sends to the background with SIGINT ignored, and children inherit that.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)
