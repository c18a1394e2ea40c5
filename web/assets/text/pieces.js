// A reply in its pieces: what the model thought before it answered, calls of tools, and text. Each has a `kind` and its
// place in the source; what lies between two pieces are their marks.
Glass.pieces = (() => {
  // How four families write a call (web/api/tools.py has where that is published). In tags it may stand anywhere, as bare
  // JSON, alone or in a list, only where the answer begins.
  const TAG = /<tool_call>\s*(?=\{)/g;
  const BEGIN = /\s*(?:(?:\[TOOL_CALLS\]|<\|python_tag\|>)\s*)?(?:\[\s*)?(?=\{\s*"name"\s*:\s*"[\w.-]{1,64}"\s*,\s*"(?:arguments|parameters)"\s*:\s*\{)/y;
  const BETWEEN = /(?:<\/tool_call>|[\s;,\]])*/y; // after a call, and before the next
  const NAME = /\{\s*"name"\s*:\s*"([\w.-]{1,64})"/y;

  return function pieces(source) {
    const [begin] = source.match(/^\s*<think>\n*/) || [];
    if (begin === undefined) return answer(source, 0);
    const end = source.indexOf("</think>");
    const thought = { kind: "thought", from: begin.length, to: end < 0 ? source.length : end };
    return end < 0 ? [thought] : [thought, ...answer(source, end + "</think>".length)];
  };

  function answer(source, from) {
    const found = [], next = () => callAfter(source, matchAt(BEGIN, source, from)) || tagged(source, from);
    for (let call = next(); call; call = next()) {
      if (source.slice(from, call.begin).trim()) found.push({ kind: "text", from, to: call.begin });
      found.push(call);
      if (call.isOpen) return found;
      from = call.to + matchAt(BETWEEN, source, call.to)[0].length;
    }
    return [...found, { kind: "text", from, to: source.length }];
  }

  function matchAt(pattern, source, at) {
    pattern.lastIndex = at;
    return pattern.exec(source);
  }
  // The next call in tags. An example in a block of code is none.
  function tagged(source, from) {
    for (let match = matchAt(TAG, source, from); match; match = TAG.exec(source)) {
      const isExample = (source.slice(from, match.index).match(/^[ \t]*(?:```|~~~)/gm) || []).length % 2;
      const call = !isExample && callAfter(source, match);
      if (call) return call;
    }
    return null;
  }
  // The object that follows what was matched, if it is a call, or may become one.
  function callAfter(source, match) {
    if (!match) return null;
    const from = match.index + match[0].length;
    const end = objectEnd(source, from), to = end ?? source.length;
    const name = end === null ? matchAt(NAME, source, from)?.[1] ?? "" : calledName(source.slice(from, to));
    return name === null ? null : { kind: "call", name, begin: match.index, from, to, isOpen: end === null };
  }
  function objectEnd(source, start) {
    let depth = 0, isQuoted = false;
    for (let at = start; at < source.length; at++) {
      const letter = source[at];
      if (letter === "\\") at++; // what is escaped ends no text
      else if (letter === '"') isQuoted = !isQuoted;
      else if (!isQuoted && (letter === "{" || letter === "}")) {
        depth += letter === "{" ? 1 : -1;
        if (!depth) return at + 1;
      }
    }
    return null;
  }
  // Null if these words are no call.
  function calledName(words) {
    try {
      const { name, arguments: given, parameters = given } = JSON.parse(words);
      return typeof name === "string" && Object(parameters) === parameters && !Array.isArray(parameters) ? name : null;
    } catch { return null; }
  }
})();
