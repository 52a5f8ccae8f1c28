"""Settings for all tests: neither a busy computer nor an unlucky draw of generated inputs fails a
test, and signals end the programs that a test starts even if the tests run in the background.
"""

import signal

from hypothesis import HealthCheck, settings

settings.register_profile("explore", deadline=None, suppress_health_check=[HealthCheck.too_slow])
# Tests use the same generated inputs in every run. Chance finds belong to `--hypothesis-profile
# explore` and `./doit fuzz`, not to whoever changed something else.
settings.register_profile("same", settings.get_profile("explore"), derandomize=True)
# Keep the profile that a mutation test or a command line asked for.
if settings.get_current_profile_name() == "default":
    settings.load_profile("same")

# A shell starts background jobs with SIGINT and SIGQUIT ignored, and nohup ignores SIGHUP. Children
# inherit that, and tests send these signals to theirs.
for number, usual in (
    (signal.SIGINT, signal.default_int_handler),
    (signal.SIGQUIT, signal.SIG_DFL),
    (signal.SIGHUP, signal.SIG_DFL),
):
    if signal.getsignal(number) is signal.SIG_IGN:
        signal.signal(number, usual)
