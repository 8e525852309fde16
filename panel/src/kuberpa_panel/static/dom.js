// Elements made by scripts: text, never markup.
export const same = (left, right) => JSON.stringify(left) === JSON.stringify(right);

export function make(name, classes = "", text = "") {
  const element = document.createElement(name);
  if (classes) element.className = classes;
  if (text) element.textContent = text;
  return element;
}

export function option(value, text) {
  const element = make("option", "", text);
  element.value = value;
  return element;
}

export function button(title, classes, act, text = title, label = title) {
  const element = make("button", classes, text);
  element.type = "button";
  element.setAttribute("aria-label", label);
  element.addEventListener("click", act);
  return element;
}
