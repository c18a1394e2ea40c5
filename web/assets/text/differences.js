// Which words of two texts the other does not have: those outside the longest sequence of words that both have in the same
// order. For each text [from, to] of these words, in their order, in UTF-16 units.
Glass.differences = (() => {
  const MOST_CELLS = 4_000_000; // of the table below; longer texts differ from their first other word to their last

  // Punctuation counts too: "3 + 4" is not "3 - 4".
  function words(text) {
    const segments = new Intl.Segmenter(undefined, { granularity: "word" }).segment(text);
    return [...segments].filter(({ segment }) => segment.trim()).map(({ segment, index }) => ({ word: segment, at: [index, index + segment.length] }));
  }

  // lengths[i][j]: of the longest common sequence of what stands from word i and from word j on.
  function table(one, other) {
    const width = other.length + 1, lengths = new Uint16Array((one.length + 1) * width);
    for (let i = one.length - 1; i >= 0; i--)
      for (let j = other.length - 1; j >= 0; j--) {
        const place = i * width + j;
        lengths[place] = one[i].word === other[j].word ? lengths[place + width + 1] + 1 : Math.max(lengths[place + width], lengths[place + 1]);
      }
    return (i, j) => lengths[i * width + j];
  }

  function outsideCommon(one, other) {
    if (one.length * other.length > MOST_CELLS) return [one, other];
    const length = table(one, other), left = [], right = [];
    for (let i = 0, j = 0; i < one.length || j < other.length;) {
      if (i < one.length && j < other.length && one[i].word === other[j].word) { i++; j++; }
      else if (j === other.length || (i < one.length && length(i + 1, j) >= length(i, j + 1))) left.push(one[i++]);
      else right.push(other[j++]);
    }
    return [left, right];
  }

  // `isGrowing`: words after the last one of the shorter text are not compared, they may still come there.
  return (first, second, isGrowing = false) => {
    let [one, other] = [words(first), words(second)];
    if (isGrowing) [one, other] = [one, other].map((all) => all.slice(0, Math.min(one.length, other.length)));
    let begin = 0, end = 0;
    const shorter = Math.min(one.length, other.length);
    while (begin < shorter && one[begin].word === other[begin].word) begin++;
    while (end < shorter - begin && one.at(-1 - end).word === other.at(-1 - end).word) end++;
    const middle = [one, other].map((all) => all.slice(begin, all.length - end));
    return outsideCommon(...middle).map((left) => left.map(({ at }) => at));
  };
})();
