package main

import (
	"fmt"
	"html"
	"net/http"
)

// landing is the page at the root: what runs here and where its interfaces are.
func (s *server) landing(w http.ResponseWriter, _ *http.Request) {
	h := w.Header()
	h.Set("Content-Type", "text/html; charset=utf-8")
	h.Set("Content-Security-Policy", "default-src 'none'; style-src 'unsafe-inline'")
	_, _ = fmt.Fprintf(w, landingPage, html.EscapeString(version),
		html.EscapeString(s.grpcAddr()))
}

const landingPage = `<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width">
<title>Tutti</title>
<style>
body { font: 16px/1.5 system-ui, sans-serif; max-width: 40rem; margin: 3rem auto; padding: 0 1rem }
code { background: #8882; padding: .1em .3em; border-radius: .2em }
@media (prefers-color-scheme: dark) { body { background: #111; color: #ddd } a { color: #8bf } }
</style>
<h1>Tutti</h1>
<p>A durable workflow server, version %s. There is no user interface here yet; use the command
<code>tutti</code> or one of these:</p>
<ul>
<li><a href="/api-docs">/api-docs</a>: the Conductor API below <code>/api</code>, as an OpenAPI
document</li>
<li><code>/admin/v1</code>: the native API</li>
<li><a href="/metrics">/metrics</a>: figures for Prometheus</li>
<li><a href="/readyz">/readyz</a>: whether the server can serve</li>
<li>gRPC at <code>%s</code></li>
</ul>
</html>
`
