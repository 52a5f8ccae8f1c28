"""For every test: neither a busy computer nor an unlucky draw fails one that draws its inputs, and
signals end the programs that a test starts, also where the tests themselves run in the background.
"""

import signal

from hypothesis import HealthCheck, settings

settings.register_profile("explore", deadline=None, suppress_health_check=[HealthCheck.too_slow])
# The same inputs in every run: what is found by chance is found by `--hypothesis-profile explore`
# and `./doit fuzz`, and not by whoever changed something else.
settings.register_profile("same", settings.get_profile("explore"), derandomize=True)
# What a mutation test or a command line asked for stays.
if settings.get_current_profile_name() == "default":
    settings.load_profile("same")

# A shell starts what it sends to the background with SIGINT and SIGQUIT ignored, nohup what it is
# given with SIGHUP. Children inherit that, and tests send these to theirs.
for number, usual in (
    (signal.SIGINT, signal.default_int_handler),
    (signal.SIGQUIT, signal.SIG_DFL),
    (signal.SIGHUP, signal.SIG_DFL),
):
    if signal.getsignal(number) is signal.SIG_IGN:
        signal.signal(number, usual)
