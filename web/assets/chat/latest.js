// Where the page is scrolled to. It follows the latest words until the person scrolls up, be it a little, and again from
// the end on; a button over the message box leads back.
Glass.latest = (() => {
  const { T, button } = Glass;
  const NEAR = 140, AGAIN = 40; // so far from the end the page counts as there, and follows again
  const back = button(T.latest, "latest", () => { Glass.chat.end(); Glass.composer.focus(); }, { class: "latest", hidden: true });
  let before = 0, isLeft = false;

  function rest() {
    const { scrollHeight, scrollTop, clientHeight } = document.scrollingElement;
    return scrollHeight - scrollTop - clientHeight;
  }
  const isNear = () => !isLeft && rest() < NEAR;

  function scrolled() {
    const now = document.scrollingElement.scrollTop, isUp = now < before;
    before = now;
    if (isUp ? rest() > 2 : rest() < AGAIN) isLeft = isUp; // text that becomes shorter moves the page too, and it is at its end
    look();
  }
  function look() {
    const home = document.querySelector("#composer");
    if (home && back.parentElement !== home) home.append(back);
    back.hidden = !Glass.chat?.chat.path.length || isNear();
  }

  addEventListener("scroll", scrolled, { passive: true });
  Glass.whenThere(() => new ResizeObserver(look).observe(document.body));

  return {
    isNear,
    show() {
      isLeft = false;
      document.scrollingElement.scrollTop = document.scrollingElement.scrollHeight;
      before = document.scrollingElement.scrollTop; // not a way up, also if there is less text than before
    },
  };
})();
