// For bundlers, and for pages whose import map says where `react` is.

import * as React from 'react';
import { createCarillonReact } from './react.js';

export const {
  CarillonProvider, useCarillon, useNotifications, Bell, NotificationBell, NotificationCentre, NotificationList, PreferencesForm, Toasts,
} = createCarillonReact(React);
