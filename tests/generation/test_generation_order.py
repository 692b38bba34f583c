"""Dials given per row by an outer `steer` block reach the prompts they were given for."""

import neurodial as nd
from neurodial.model.tiny import tiny_subject

DECODING = nd.Decoding(max_new_tokens=8)
PROMPTS = ["Hi", "A much longer question than the first one"]  # shortest first: not the order of padded batches


def whole_layer(subject):
    from neurodial.circuit.circuit import Row

    return nd.Circuit.of([Row(nd.Neuron(1, None, index), 1.0, 1.0) for index in range(subject.widths[1])])


def texts(answers):
    return [answer.tokens for answer in answers]


def test_row_dials_follow_the_order_of_the_prompts():
    subject = tiny_subject()
    circuit = whole_layer(subject)
    one_by_one = [
        nd.generate(subject, [prompt], under=nd.Scale(circuit, dial), decoding=DECODING)[0]
        for prompt, dial in zip(PROMPTS, (0.0, 3.0), strict=True)
    ]
    exchanged = [
        nd.generate(subject, [prompt], under=nd.Scale(circuit, dial), decoding=DECODING)[0]
        for prompt, dial in zip(PROMPTS, (3.0, 0.0), strict=True)
    ]
    assert texts(one_by_one) != texts(exchanged)
    with nd.steer(subject, nd.Scale(circuit, dial=[0.0, 3.0])):
        together = nd.generate(subject, PROMPTS, decoding=DECODING)
    assert texts(together) == texts(one_by_one)
