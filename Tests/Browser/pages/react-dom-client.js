import 'react';

export const { createRoot } = window.ReactDOM;
