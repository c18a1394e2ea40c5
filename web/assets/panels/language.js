// The language of the page: the browser's, or the one that was chosen among the chats. The server reads both with each
// request; Gradio says which language the page has, and knows only the browser's.
Glass.language = (() => {
  const { T, make } = Glass, { cookie: COOKIE, names: NAMES } = window.GLASS_LANGUAGES, YEAR_SECONDS = 31_536_000;
  const page = document.documentElement;
  const chosen = () => document.cookie.split("; ").find((cookie) => cookie.startsWith(`${COOKIE}=`))?.slice(COOKIE.length + 1) || "";
  // In a frame of another site (a Space) a browser keeps a cookie only like this.
  const SCOPE = location.protocol === "https:" ? "SameSite=None; Secure; Partitioned" : "SameSite=Lax";

  function choose(language) {
    document.cookie = `${COOKIE}=${language}; path=/; max-age=${language ? YEAR_SECONDS : 0}; ${SCOPE}`;
    location.reload();
  }

  function apply() { if (page.lang !== T.language_code) page.lang = T.language_code; }
  apply();
  new MutationObserver(apply).observe(page, { attributeFilter: ["lang"] });

  return {
    control() {
      const choices = [["", T.language_auto], ...Object.entries(NAMES)];
      const select = make("select", { onchange: () => choose(select.value) },
        ...choices.map(([value, name]) => make("option", { value, lang: value || null, selected: value === chosen() }, name)));
      return make("label", { class: "choice" }, T.language, select);
    },
  };
})();
