"""Retries with an Idempotency-Key while Postgres dies."""

import concurrent.futures
import uuid

import requests

from carillon import APIS, KEY, Stream, call, eventually, local, new_user, token


def test_a_client_that_retries_until_it_is_answered_writes_once_whatever_postgres_does():
    user = new_user()
    with Stream(token(user)) as stream:
        stream.expect("ready")

        def until_done(number):
            key, attempts = str(uuid.uuid4()), 0

            def attempt():
                nonlocal attempts
                attempts += 1
                try:
                    answer = call("POST", "/v1/internal/notify", KEY, base=APIS[attempts % 2], json={"title": str(number), "user_id": user},
                                  headers={"Idempotency-Key": key})
                except requests.RequestException:
                    return None
                assert answer.status_code in (201, 409, 503), answer.text
                if answer.status_code == 503:
                    assert int(answer.headers["retry-after"]) >= 1
                return answer.json()["notifications"][0] if answer.status_code == 201 else None

            return eventually(attempt, f"an answer to write {number}")

        with concurrent.futures.ThreadPoolExecutor(16) as pool:
            writes = [pool.submit(until_done, number) for number in range(400)]
            for _ in range(3):
                eventually(lambda: any(write.done() for write in writes), "a first answer")
                local("kill", "postgres")
                local("start", "postgres")
            written = [write.result() for write in writes]
        assert sorted(entry["seq"] for entry in written) == list(range(1, 401))
        shown = [stream.next() for _ in range(400)]
        assert [event.data["seq"] for event in shown] == list(range(1, 401))
        assert {event.data["title"] for event in shown} == {str(number) for number in range(400)}
        assert shown[-1].data["unread"] == 400
