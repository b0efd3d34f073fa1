import re
from typing import get_args

import pytest
from pydantic import ValidationError

from entrypoint.describe import default_of, details, kind
from entrypoint.settings import FIELDS, GROUPS, JobConfig, changed, class_of, group_of, settings_by_class, unit_of
from trainer.settings import Class


@pytest.mark.parametrize("name", FIELDS)
def test_every_setting_says_what_it_is(name):
    field = FIELDS[name]
    assert class_of(field) in get_args(Class)
    assert group_of(field) in GROUPS
    assert field.description
    assert "\n" not in field.description
    assert kind(name)
    assert class_of(field) in details(name)
    assert re.fullmatch("[a-z]+(_[a-z]+)*", name)


@pytest.mark.parametrize("name", FIELDS)
def test_a_unit_in_the_name_is_the_unit_of_the_setting(name):
    for unit in ("bytes", "seconds"):
        assert name.endswith(f"_{unit}") == (unit_of(FIELDS[name]) == unit)


@pytest.mark.parametrize("name", [name for name, field in FIELDS.items() if default_of(field)])
def test_the_default_that_help_shows_is_the_default(name):
    written = JobConfig.model_validate({name: default_of(FIELDS[name])}).model_dump()
    assert written == JobConfig().model_dump()


def test_help_shows_groups_one_after_the_other():
    groups = [group_of(field) for field in FIELDS.values()]
    assert list(dict.fromkeys(groups)) == list(GROUPS)
    assert groups == sorted(groups, key=list(GROUPS).index)


def test_settings_are_frozen_and_unknown_names_refused():
    with pytest.raises(ValidationError, match="frozen"):
        JobConfig().epochs = 3
    with pytest.raises(ValidationError, match="epocs"):
        JobConfig(epocs=3)


@pytest.mark.parametrize(
    ("values", "problem"),
    [
        ({"micro_batch_size": 33, "batch_size": 32}, "--micro_batch_size 33: is above --batch_size 32"),
        ({"endpoint_url": "nonsense"}, "--endpoint_url nonsense: must be an address such as https://host:9000"),
        ({"retry_exit_code": 78}, "--retry_exit_code 78: means already"),
    ],
)
def test_rules_across_settings(values, problem):
    with pytest.raises(ValidationError, match=re.escape(problem)):
        JobConfig(**values)


def test_a_micro_batch_may_be_the_whole_batch():
    assert JobConfig(micro_batch_size=32, batch_size=32).micro_batch_size == 32


def test_each_setting_is_in_the_settings_of_its_class():
    config = JobConfig(sets={"blocks": "2"}, cache_bytes="1GB", learning_rate=0.5)
    by_class = {when: settings_by_class(config, when) for when in get_args(Class)}
    assert sorted(name for settings in by_class.values() for name in settings) == sorted(FIELDS)
    assert by_class["run"]["set"] == {"blocks": "2"}
    assert by_class["round"]["learning_rate"] == 0.5
    assert by_class["now"]["cache_bytes"] == 10**9


def test_changed_names_found_and_expected():
    stored = settings_by_class(JobConfig(task="images", seed=1), "run")
    expected = settings_by_class(JobConfig(task="images", seed=2), "run")
    assert changed(stored, stored) == []
    assert changed(expected, stored) == [("seed", 1, 2)]


def test_a_setting_that_an_old_folder_does_not_know_had_its_default():
    current = settings_by_class(JobConfig(task="images", eval_fraction=0.5), "run")
    stored = {"task": "images", "a_setting_that_is_gone": 3}
    assert changed(current, stored) == [("eval_fraction", 0.0, 0.5)]
