from kvl.configs.system import versions


def test_a_package_that_is_missing_is_said_to_be(monkeypatch):
    def nothing(name):
        raise versions.PackageNotFoundError(name)

    monkeypatch.setattr(versions, "version", nothing)
    assert versions.versions("kvl-rl").splitlines()[:2] == [
        "kvl-rl not installed",
        "torch not installed",
    ]
