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
