"""Options of the page that whoever serves it sets before it starts."""

from typing import Any

OPTIONS: dict[str, Any] = {
    "theme.base": "light",
    "theme.primaryColor": "#1f5f8b",
    "theme.backgroundColor": "#ffffff",
    "theme.secondaryBackgroundColor": "#f4f6f8",
    "theme.textColor": "#1b2733",
    "theme.borderColor": "#dde3e9",
    "theme.baseRadius": "0.4rem",
    "theme.showWidgetBorder": True,
    "client.toolbarMode": "minimal",
    "client.showErrorDetails": "none",  # an error that nobody foresaw goes to the log, not to the page
    "server.maxUploadSize": 200,
}
