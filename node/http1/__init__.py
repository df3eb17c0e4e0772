"""HTTP/1.1 for an ASGI application, on one trio stream: httptools parses, and nothing here costs a task a request.

A connection is one loop: read until a request's head is there, call the application, answer, go on. More is read only
when somebody asks for it (the next request, or the body's next part), so a client is slowed down by TCP itself and
what a connection holds is bounded by one read. Requests that came in one packet are answered in order.

Framing follows RFC 9112 and takes no chances: what two parsers could read in two ways (a Content-Length that is
repeated, or stands beside Transfer-Encoding; another coding than chunked; a bare line feed; a folded line) is refused
with 400 and the connection is closed. An Upgrade is not taken, and HTTP/2 by prior knowledge is refused with 505.
"""
