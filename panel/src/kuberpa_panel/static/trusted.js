// htmx alone may write HTML: it gets the page's only Trusted Types policy, which nothing else can reach.
(() => {
  "use strict";
  const rules = { createHTML: (html) => html, createScript: () => "" };
  const policy = window.trustedTypes ? window.trustedTypes.createPolicy("kuberpa", rules) : rules;
  const never = () => () => undefined;
  window.htmx.registerExtension("kuberpa", { init: (api) => api.initSecurity(policy, never, never) });
})();
