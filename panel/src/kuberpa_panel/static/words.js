// Sentences of scripts in the page's language, which a file before this one has brought. As in the panel's Python:
// English stands in the code, `%(name)s` for a value, `%%` for a percent.
const translations = globalThis.kuberpaWords ?? {};
export const language = document.documentElement.lang || "en";
const plurals = new Intl.PluralRules(language);
// the order of forms in catalogues; what Intl calls "other" is the last of them in English, a fraction in Russian
const FORMS = language === "ru" ? ["one", "few", "many"] : ["one", "other"];

export function _(message, values = {}) {
  return put(translations[message] ?? message, values);
}

export function ngettext(one, many, num, values = {}) {
  const forms = translations[one] ?? [one, many];
  const index = FORMS.indexOf(plurals.select(num));
  return put(forms[index < 0 ? 1 : index], { num, ...values });
}

export function pgettext(context, message, values = {}) {
  return put(translations[`${context}\u0004${message}`] ?? message, values);
}

export function number(value, digits = 0) {
  return value.toLocaleString(language, { minimumFractionDigits: digits, maximumFractionDigits: digits });
}

export function clock(at) {
  return at.toLocaleTimeString(language, { hourCycle: "h23", hour: "2-digit", minute: "2-digit", second: "2-digit" });
}

function put(text, values) {
  return text.replace(/%(?:%|\((\w+)\)s)/g, (found, name) => (name ? String(values[name]) : "%"));
}
