"""What holds for every node of the pack."""


def test_every_input_is_explained(nodes):
    for name, cls in nodes.items():
        schema = cls.GET_SCHEMA()
        assert schema.node_id == f"LTX2Continuum{name}" and schema.category.startswith("LTX-2 Continuum/"), name
        assert len(schema.description) > 20, name
        for one in schema.inputs:
            assert one.tooltip and len(one.tooltip) > 10, f"{name}.{one.id} has no tooltip"
        for one in schema.outputs:
            assert one.display_name, name


def test_one_default_everywhere(nodes):
    """A number that several nodes ask for begins with the same value in all of them, but for what takes it from
    somewhere else: below 0 as the state says, and a rate of 0 wherever a state, or what may hold one, is connected."""
    defaults: dict[str, set] = {}
    for name, cls in nodes.items():
        inputs = {one.id: one for one in cls.GET_SCHEMA().inputs}
        for one in inputs.values():
            kind = one.io_type
            if kind in ("INT", "FLOAT") and one.default >= 0 and one.id != "fps":
                defaults.setdefault(one.id, set()).add(one.default)
        if "fps" in inputs:
            follows = any(one.io_type in ("LTX2_CONTINUATION_STATE", "LTX2_CONDITIONS") for one in inputs.values())
            assert inputs["fps"].default == (0 if follows else 24), name
    assert not {name: found for name, found in defaults.items() if len(found) > 1}
    assert {"seconds", "width", "seed", "video_overlap", "strength"} <= set(defaults)
