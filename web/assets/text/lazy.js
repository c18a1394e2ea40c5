// Libraries of others, each loaded once, when the first reply needs it.
Glass.lazy = (() => {
  const { make } = Glass, loading = new Map();
  const load = (name) => new Promise((loaded, failed) => document.head.append(make("script", { src: `vendor/${name}.js`, onload: loaded, onerror: failed })));

  return (name, global) => {
    if (!loading.has(name)) loading.set(name, load(name).then(() => window[global], () => { loading.delete(name); return null; }));
    return loading.get(name); // what it exports, or null if it did not come
  };
})();
