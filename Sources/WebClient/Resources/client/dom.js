/** Makes an element. Text becomes text nodes, never markup. Attributes that are null or false are left out; those that begin with `on` are listeners. */
export function make(name, attributes = {}, ...children) {
  const isSVG = ['svg', 'path', 'line', 'text', 'g', 'polyline', 'polygon'].includes(name);
  const element = isSVG ? document.createElementNS('http://www.w3.org/2000/svg', name) : document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) {
    if (value === null || value === undefined || value === false) continue;
    if (key.startsWith('on')) element.addEventListener(key.slice(2), value);
    else element.setAttribute(key, value === true ? '' : value);
  }
  element.append(...children.filter(child => child !== null && child !== undefined && child !== false));
  return element;
}

export const byID = id => document.getElementById(id);
