"""Every test here gives the shared subjects back as they were."""

from tests.subjects import shared_subjects_are_given_back

__all__ = ["shared_subjects_are_given_back"]
