"""A request that is repeated with its Idempotency-Key is carried out once, whichever node it reaches and whatever dies meanwhile."""

import concurrent.futures
import uuid

from carillon import APIS, KEY, call, new_user, problem, token


def send(key, base=APIS[0], **body):
    return call("POST", "/v1/internal/notify", KEY, base=base, json={"title": "once", **body}, headers={"Idempotency-Key": key})


def test_the_second_answer_is_the_first_on_every_node():
    user, key = new_user(), str(uuid.uuid4())
    first = send(key, user_ids=[user])
    assert first.status_code == 201 and "Idempotent-Replayed" not in first.headers
    for base in APIS:
        again = send(key, base, user_ids=[user])
        assert again.status_code == 201 and again.headers["Idempotent-Replayed"] == "true" and again.content == first.content
    problem(send(key, user_ids=[user], content="another"), 422, "invalid_body")
    assert call("GET", "/v1/notifications/count", token(user)).json()["unread"] == 1


def test_two_nodes_that_are_asked_at_once_carry_it_out_once():
    for _ in range(10):
        user, key = new_user(), str(uuid.uuid4())
        with concurrent.futures.ThreadPoolExecutor(8) as pool:
            answers = list(pool.map(lambda index: send(key, APIS[index % 2], user_ids=[user]), range(8)))
        done = [answer for answer in answers if answer.status_code == 201]
        assert done and all(answer.status_code in (201, 409) for answer in answers)
        assert len({answer.content for answer in done}) == 1
        assert call("GET", "/v1/notifications/count", token(user)).json()["unread"] == 1
