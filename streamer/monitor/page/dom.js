// The page is made of elements and text. What came in a message is only ever text: no markup is parsed anywhere.

const SVG = "http://www.w3.org/2000/svg";

export const at = (id) => document.getElementById(id);

export function make(name, attributes = {}, ...children) {
  return filled(document.createElement(name), attributes, children);
}

export function draw(name, attributes = {}, ...children) {
  return filled(document.createElementNS(SVG, name), attributes, children);
}

function filled(element, attributes, children) {
  for (const [key, value] of Object.entries(attributes)) {
    if (value != null && value !== false) element.setAttribute(key, value === true ? "" : value);
  }
  element.append(...children.filter((child) => child != null).map(node));
  return element;
}

function node(child) {
  return child instanceof Node ? child : String(child);
}

// Sets text only where it changed: what is read aloud is not read again.
export function say(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

export function replace(element, ...children) {
  element.replaceChildren(...children.filter((child) => child != null));
}

// A row for each item, kept by key: focus and selection stay where they are while numbers change.
export function rows(body, items, key, fresh, update) {
  const known = new Map([...body.children].map((row) => [row.dataset.key, row]));
  let before = null;
  for (const item of items) {
    const name = key(item);
    let row = known.get(name);
    known.delete(name);
    if (!row) {
      row = fresh(item);
      row.dataset.key = name;
    }
    update(row, item);
    const place = before ? before.nextSibling : body.firstChild;
    if (place !== row) body.insertBefore(row, place);
    before = row;
  }
  for (const row of known.values()) row.remove();
}
