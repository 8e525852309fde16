// Runs before the first paint: the colours, the zone that the server shows times in, and the language.
(() => {
  "use strict";
  const root = document.documentElement;
  const dark = matchMedia("(prefers-color-scheme: dark)");
  const apply = () => {
    const wanted = root.dataset.theme;
    root.dataset.bsTheme = wanted === "auto" ? (dark.matches ? "dark" : "light") : wanted;
  };
  apply();
  dark.addEventListener("change", apply);
  const zone = Intl.DateTimeFormat().resolvedOptions().timeZone;
  const keep = (name, value) => {
    document.cookie = `${name}=${value}; path=/; max-age=31536000; samesite=lax`;
  };
  if (zone && !document.cookie.includes(`kuberpa_zone=${zone};`)) keep("kuberpa_zone", zone);
  addEventListener("click", (event) => {
    const speak = event.target instanceof Element && event.target.closest("[data-set-language]");
    if (speak) {
      keep("kuberpa_language", speak.dataset.setLanguage);
      location.reload();
    }
    const button = event.target instanceof Element && event.target.closest("[data-set-theme]");
    if (!button) return;
    root.dataset.theme = button.dataset.setTheme;
    keep("kuberpa_theme", root.dataset.theme);
    for (const each of document.querySelectorAll("[data-set-theme]")) {
      each.setAttribute("aria-pressed", String(each === button));
    }
    apply();
  });
})();
