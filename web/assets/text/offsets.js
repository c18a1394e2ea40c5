// Where in the source each character of a parsed text comes from. The parser says where a node begins and ends; inside,
// escapes ("\*"), character references ("&amp;") and the marks before continued lines ("> ") are gone.
Glass.offsets = (() => {
  const PUNCTUATION = /[!-/:-@[-`{-~]/;
  const REFERENCE = /&(?:#x([0-9a-f]{1,6})|#(\d{1,7})|(\w{1,31}));/iy;

  function reference(source, at) {
    REFERENCE.lastIndex = at;
    const found = REFERENCE.exec(source);
    if (!found) return null;
    const [whole, hexadecimal, decimal, name] = found;
    if (name) {
      const letters = VendoredMarkdown.decodeNamedCharacterReference(name);
      return letters && { length: whole.length, letters };
    }
    const code = hexadecimal ? parseInt(hexadecimal, 16) : Number(decimal);
    return { length: whole.length, letters: code && code <= 0x10ffff ? String.fromCodePoint(code) : "\ufffd" };
  }

  // One offset for each UTF-16 unit of `value`, ascending. `isLiteral`: code, in which nothing is escaped.
  return function offsets(value, source, from, to, isLiteral = false) {
    const found = [];
    let at = from;
    while (found.length < value.length) {
      const letter = value[found.length];
      const escaped = !isLiteral && source[at] === "\\" && source[at + 1] === letter && PUNCTUATION.test(letter);
      const named = !isLiteral && source[at] === "&" ? reference(source, at) : null;
      if (escaped) { found.push(at); at += 2; continue; }
      if (named && value.startsWith(named.letters, found.length)) {
        for (const _ of named.letters.split("")) found.push(at);
        at += named.length;
        continue;
      }
      if (source[at] !== letter) at = next(source, letter, at, to);
      found.push(Math.min(at, to - 1));
      if (source[at] === letter) at++;
    }
    return found;
  };

  // The next place of `letter`, in the same line unless it is the line's end; where it was made up (a tab as spaces): here.
  function next(source, letter, at, to) {
    const place = source.indexOf(letter, at), end = source.indexOf("\n", at);
    const limit = letter === "\n" || end < 0 ? to : Math.min(end, to);
    return place < 0 || place >= limit ? at : place;
  }
})();
