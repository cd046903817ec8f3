// Debian's React as the module that an import map names.
const load = source => new Promise((resolve, reject) => {
  const script = document.createElement('script');
  [script.src, script.onload, script.onerror] = [source, resolve, reject];
  document.head.append(script);
});
await load('/react/18-production/react.js');
await load('/react/18-production/react-dom.js');

export const {
  createContext, createElement, useCallback, useContext, useEffect, useId, useMemo, useRef, useState, useSyncExternalStore,
} = window.React;
