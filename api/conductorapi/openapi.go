package conductorapi

func (a *API) document() []byte { return nil }
