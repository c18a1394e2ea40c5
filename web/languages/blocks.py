"""One Gradio page for all languages: one queue and one set of events, and the components' words in each language."""

from collections.abc import Callable, Mapping
from contextlib import suppress
from types import MappingProxyType
from typing import Any

import gradio as gr
from starlette.requests import HTTPConnection

from web.languages.sentences import COOKIE, ENGLISH, LANGUAGES, language_now, requested_language, speaking


class TranslatedBlocks(gr.Blocks):
    """Gradio draws a page from a description (`config`) that it makes once. Here each request gets the one in its
    language, and each event is answered in the language of who caused it."""

    heads: Mapping[str, str] = MappingProxyType({})  # language → what stands in the page's head
    _said: Mapping[str, list[Any]] = MappingProxyType({})  # language → what each component is given, in order

    def translate(self, build: Callable[[], object]) -> None:
        """`build` makes the components of this page once more, in each other language."""
        self._said = {language: _props(language, build) for language in LANGUAGES if language != ENGLISH}

    @property
    def config(self) -> Any:  # a private hook: Gradio sets and reads an attribute of this name
        """The description of the page in the language that is spoken now."""
        english, language = self._config, language_now()
        said, head = self._said.get(language), self.heads.get(language, english["head"])
        if said is None:
            return english | {"head": head}
        components = english["components"]
        told = [row | {"props": props} for row, props in zip(components, said, strict=False)]
        # What came later, for programs that call the page, has no words.
        return english | {"head": head, "components": told + components[len(told) :]}

    @config.setter
    def config(self, config: Any) -> None:
        self._config = config

    async def process_api(self, *arguments: Any, **more: Any) -> dict[str, Any]:
        """A private hook. Events are answered by a task of their own, which does not know the request's context."""
        event = more.get("request")
        request = event.request if isinstance(event, gr.Request) else None
        with speaking(language_of(request) if request else ENGLISH):
            return await super().process_api(*arguments, **more)


class _Enough(Exception):
    """Leaves a page that was only made to be described: Gradio would make an app of it, which takes a while."""


def _props(language: str, build: Callable[[], object]) -> list[Any]:
    with speaking(language), suppress(_Enough), gr.Blocks(analytics_enabled=False) as other:
        build()
        described = other.get_config_file()["components"]
        raise _Enough
    return [component["props"] for component in described]


def language_of(connection: HTTPConnection) -> str:
    """In which language a request is to be answered."""
    return requested_language(connection.cookies.get(COOKIE), connection.headers.get("accept-language", ""))
