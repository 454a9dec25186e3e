"""The portal's pages: HTML, server-sent events, and nothing else. All decisions are the services'."""

from portal.web.site import setup as setup
from portal.web.site import setup_staff as setup_staff
