"""A browser tab without a browser: it posts the page's events and reads the answers as Gradio's script does."""

import contextlib
import json
import secrets

import httpx


class Tab:
    """A tab of the page at `url`. A context manager: leaving it closes the tab."""

    def __init__(self, url):
        self.session, self.url = secrets.token_hex(5), f"{url}/gradio_api"
        self.client = httpx.Client(timeout=60)
        config = self.client.get(f"{url}/config").json()
        self.parts = {part["id"]: part["props"] for part in config["components"]}
        self.events = config["dependencies"]

    def __enter__(self):
        # As long as this answer is read, the tab is open.
        self.heartbeat = self.client.stream("GET", f"{self.url}/heartbeat/{self.session}")
        self.heartbeat.__enter__()
        return self

    def __exit__(self, *_):
        self.heartbeat.__exit__(None, None, None)
        self.client.close()

    def send(self, part, event, values=None, data=None):
        """Post the event of the component with this `elem_id`; `values` stand instead of the first inputs."""
        target = next(number for number, props in self.parts.items() if props.get("elem_id") == part)
        found = next(row for row in self.events if [target, event] in map(list, row["targets"]))
        inputs = [self.parts[number].get("value") for number in found["inputs"]]
        values = list(values or ())
        body = {"data": [*values, *inputs[len(values) :]], "fn_index": found["id"], "session_hash": self.session}
        body |= {"event_data": data, "trigger_id": target}
        answer = self.client.post(f"{self.url}/queue/join", json=body)
        answer.raise_for_status()
        return answer.json()["event_id"]

    @contextlib.contextmanager
    def messages(self):
        """What comes back, message by message, until the events that were sent are over."""
        with self.client.stream("GET", f"{self.url}/queue/data", params={"session_hash": self.session}) as answer:
            yield (json.loads(line[6:]) for line in answer.iter_lines() if line.startswith("data: "))

    def ask(self, text, chat=""):
        """Send a message; all that comes back, as one text."""
        self.send("message", "submit", (text, chat))
        with self.messages() as messages:
            return json.dumps(list(messages), ensure_ascii=False)
