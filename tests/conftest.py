"""For every test: a busy computer is no reason to fail one that draws its inputs."""

from hypothesis import HealthCheck, settings

settings.register_profile("any-load", deadline=None, suppress_health_check=[HealthCheck.too_slow])
# What a mutation test or a command line asked for stays.
if settings.get_current_profile_name() == "default":
    settings.load_profile("any-load")
