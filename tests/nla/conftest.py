"""A planted pair and a random one, each made once."""

import pytest
from tests.nla.pairs import PairFolders, write_pair


@pytest.fixture(scope="session")
def planted(tmp_path_factory) -> PairFolders:
    return write_pair(tmp_path_factory.mktemp("planted"), planted=True)


@pytest.fixture(scope="session")
def random_pair(tmp_path_factory) -> PairFolders:
    return write_pair(tmp_path_factory.mktemp("random"))
