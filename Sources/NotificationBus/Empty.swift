// NotificationBus
