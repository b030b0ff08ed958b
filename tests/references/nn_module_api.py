# ruff: noqa
# fmt: off
"""What modules, their containers and hooks, and `torch.nn.utils` say and do, line by line; run by either library.

`make_nn_module_references.py` stores PyTorch's lines."""

import pathlib


def module_lines(torch):
    nn, MM = torch.nn, torch.nn.modules.module
    found = []

    def say(*parts):
        found.append(" ".join(map(str, parts)).replace("vitrify", "torch")[:900])

    def t(f):
        try: r=f()
        except Exception as e: say(type(e).__name__, str(e))
        else: say("ok", repr(r))
    torch.manual_seed(0)
    class Net(nn.Module):
        def __init__(s):
            super().__init__(); s.a=nn.Linear(2,3); s.b=nn.Sequential(nn.BatchNorm1d(3),nn.ReLU()); s.tied=s.a; s.register_buffer("buf",torch.ones(2)); s.register_buffer("np",torch.ones(1),persistent=False); s.none=None
            s.register_parameter("p0",None)
        def forward(s,x,scale=1): return s.b(s.a(x))*scale
    n=Net(); x=torch.ones(4,2)
    for f in (
     lambda: [k for k,_ in n.named_parameters()], lambda: [k for k,_ in n.named_parameters(remove_duplicate=False)],
     lambda: [k for k,_ in n.named_buffers(prefix="z",recurse=False)], lambda: [k for k,_ in n.named_buffers(remove_duplicate=False)],
     lambda: [k for k,_ in n.named_modules(prefix="m")], lambda: [k for k,_ in n.named_modules(remove_duplicate=False)],
     lambda: [k for k,_ in n.named_children()], lambda: n, lambda: [d for d in dir(n) if not d.startswith("_") and d in ("a","b","buf","tied","p0")],
     lambda: n.get_submodule("b.0"), lambda: n.get_submodule("b.7"), lambda: n.get_submodule("buf"), lambda: n.get_parameter("a.weight").shape, lambda: n.get_parameter("buf"), lambda: n.get_parameter("a.q"), lambda: n.get_buffer("b.0.running_mean"), lambda: n.get_buffer("a.weight"),
     lambda: n.load_state_dict({"a.weight":torch.ones(2,2),"zz":torch.ones(1)}), lambda: n.load_state_dict({"zz":1},strict=False), lambda: n.load_state_dict([1]), lambda: n.load_state_dict({**n.state_dict(),"buf":3}), lambda: n.load_state_dict(n.state_dict()), lambda: n.load_state_dict({k:v.double() for k,v in n.state_dict().items()},assign=True), lambda: n.a.weight.dtype,
     lambda: n.float().a.weight.dtype, lambda: n.half().buf.dtype, lambda: n.bfloat16().b[0].num_batches_tracked.dtype, lambda: n.double().np.dtype, lambda: n.to(torch.float32).buf.dtype, lambda: n.to(torch.int32), lambda: n.to("cpu",torch.float64).buf.dtype, lambda: n.to(memory_format=torch.channels_last).buf.dtype, lambda: n.to(torch.ones(1)).buf.dtype, lambda: n.type(torch.float64).buf.dtype, lambda: n.float() and None,
     lambda: n.train("x"), lambda: n.eval().training, lambda: n.train().b[1].training,
     lambda: n.add_module("a.b",nn.ReLU()), lambda: n.add_module("",nn.ReLU()), lambda: n.add_module("forward",nn.ReLU()), lambda: n.add_module("q",3), lambda: n.register_module(3,nn.ReLU()),
     lambda: n.register_parameter("w.x",None), lambda: n.register_parameter("ww",torch.ones(1)), lambda: n.register_parameter("a",None), lambda: n.register_buffer("x.y",None), lambda: n.register_buffer("y",3), lambda: n.register_buffer(3,None),
     lambda: setattr(n,"a",3), lambda: setattr(n.a,"weight",torch.ones(2)), lambda: setattr(n,"buf",3), lambda: n.missing, lambda: delattr(n,"missing"),
     lambda: nn.Module(3), lambda: nn.Module(a=3), lambda: nn.Module()(3), lambda: n.set_submodule("b.1",nn.Tanh()), lambda: n.set_submodule("",nn.Tanh()), lambda: n.set_submodule("b.9.1",nn.Tanh()), lambda: n.set_submodule("b.1",3), lambda: n.set_submodule("nope",nn.Tanh(),strict=True),
     lambda: n.b, lambda: nn.ModuleList([nn.ReLU()])[3], lambda: nn.ModuleList(3), lambda: nn.ModuleDict({"a":nn.ReLU()})["b"], lambda: nn.ModuleDict([1]), lambda: nn.ParameterList([1,torch.ones(2)]), lambda: nn.ParameterDict({"a":3}), lambda: nn.ParameterDict({"a":torch.ones(1)})(1), lambda: nn.ParameterList()(), lambda: nn.Sequential(nn.ReLU())[2], lambda: nn.Sequential(nn.ReLU(),nn.Tanh())[:1], lambda: nn.Sequential(nn.ReLU())*2, lambda: nn.Sequential(nn.ReLU())+3, lambda: nn.ModuleList([nn.ReLU()])+[nn.Tanh()], lambda: nn.ModuleList([nn.ReLU()]).pop(0), lambda: nn.ModuleDict({"a":nn.ReLU()}).popitem() if hasattr(nn.ModuleDict,"popitem") else None,
     lambda: (nn.ParameterDict({"b":torch.ones(1),"a":torch.ones(1)}) | nn.ParameterDict({"c":torch.ones(1)})).keys(), lambda: nn.ParameterDict({"a":torch.ones(1)}).setdefault("z",torch.ones(2)), lambda: nn.ParameterDict({"a":torch.ones(1)}).get("z"), lambda: nn.ParameterDict({"a":torch.ones(1)}).fromkeys(["q"],1), lambda: nn.ParameterDict({"a":torch.ones(1)}).popitem()[0],
    ): t(f)
    log=[]
    h=[n.register_forward_pre_hook(lambda m,a: log.append("pre1")), n.register_forward_pre_hook(lambda m,a,k: log.append(("pre2",sorted(k))),with_kwargs=True,prepend=True),
     n.register_forward_hook(lambda m,a,o: log.append("post1")), n.register_forward_hook(lambda m,a,k,o: log.append("post2"),with_kwargs=True,prepend=True), n.register_forward_hook(lambda m,a,o: log.append("always"),always_call=True),
     n.register_full_backward_hook(lambda m,gi,go: log.append(("bw",[g is None for g in gi],[tuple(g.shape) for g in go]))), n.register_full_backward_pre_hook(lambda m,go: log.append("bwpre")),
     n.register_state_dict_pre_hook(lambda m,p,k: log.append("sdpre")), n.register_state_dict_post_hook(lambda m,sd,p,md: log.append(("sdpost",len(sd)))), n.register_load_state_dict_pre_hook(lambda m,sd,*a: log.append("lpre")), n.register_load_state_dict_post_hook(lambda m,k: log.append(("lpost",k.missing_keys))),
     MM.register_module_forward_pre_hook(lambda m,a: log.append("gpre "+type(m).__name__)), MM.register_module_forward_hook(lambda m,a,o: log.append("gpost "+type(m).__name__)), MM.register_module_parameter_registration_hook(lambda m,k,v: log.append(("greg",k))), MM.register_module_module_registration_hook(lambda m,k,v: log.append(("gmod",k))), MM.register_module_buffer_registration_hook(lambda m,k,v: log.append(("gbuf",k)))]
    xx=torch.ones(4,2,requires_grad=True)
    n(xx,scale=2).sum().backward(); n.load_state_dict(n.state_dict()); nn.BatchNorm1d(2); nn.Sequential(nn.ReLU())
    t(lambda: n("bad"))
    for k in h: k.remove()
    for l in log: say(l)
    def boom(m,a): return 1,2,3
    r=n.register_forward_pre_hook(lambda m,a,k: 3,with_kwargs=True); t(lambda: n(x)); r.remove()
    class Ex(nn.Module):
        def get_extra_state(s): return {"v":7}
        def set_extra_state(s,v): s.got=v
    e=Ex(); say(e.state_dict()); e.load_state_dict({"_extra_state":5}); say(e.got); t(lambda: Ex().load_state_dict({}))
    U=torch.nn.modules.utils; sd={"module.a":1,"b":2}; U.consume_prefix_in_state_dict_if_present(sd,"module."); say(sd, U._pair(3), U._triple((1,2,3)))
    say(n.requires_grad_(False).a.weight.requires_grad, n.zero_grad(), len(list(n.modules())))
    say(type(n.state_dict()).__name__, n.state_dict()._metadata)
    l=[]; n.apply(lambda m: l.append(type(m).__name__)); say(l)
    s=nn.SyncBatchNorm.convert_sync_batchnorm(nn.Sequential(nn.Conv2d(1,2,1),nn.BatchNorm2d(2))); say(s)
    return found


def utils_lines(torch):
    nn, U = torch.nn, torch.nn.utils
    P, Z, S = U.parametrize, U.prune, U.stateless
    found = []

    def show(*values):
        for x in values:
            if isinstance(x, torch.Tensor):
                x = [f"{v:.3f}" for v in x.detach().reshape(-1).tolist()[:12]]
            found.append(str(x).replace("vitrify", "torch"))

    torch.manual_seed(0)
    m=nn.Linear(3,4)
    class Sym(nn.Module):
        def forward(self,x): return x.triu()+x.triu(1).transpose(-1,-2)
        def right_inverse(self,a): return a.triu()
    q=nn.Linear(3,3); P.register_parametrization(q,"weight",Sym()); show(repr(q),list(q.state_dict()),q.weight)
    with P.cached(): show(q.weight is q.weight)
    q.weight=torch.eye(3); show(q.weight, P.is_parametrized(q), P.type_before_parametrizations(q).__name__)
    import copy; c=copy.deepcopy(q); show(repr(c)); 
    P.remove_parametrizations(q,"weight"); show(repr(q),q.weight)
    w=U.weight_norm(m); show(repr(m),list(m.state_dict()),m.weight, m(torch.ones(2,3))); U.remove_weight_norm(m); show(list(m.state_dict()))
    s=U.spectral_norm(nn.Conv2d(2,3,3)); show(list(s.state_dict()), s(torch.ones(1,2,4,4)), s.weight_u); U.remove_spectral_norm(s); show(list(s.state_dict()))
    s=U.spectral_norm(nn.Linear(3,4)); sd=s.state_dict(); show(sd._metadata); s.load_state_dict(sd)
    l=nn.Linear(4,5)
    for f,k in ((Z.l1_unstructured,dict(amount=3)),(Z.random_unstructured,dict(amount=0.2)),(Z.ln_structured,dict(amount=1,n=2,dim=0)),(Z.random_structured,dict(amount=1,dim=1))):
        f(l,"weight",**k); show(l.weight_mask, list(l.state_dict()))
    show(l(torch.ones(1,4)), Z.is_pruned(l)); Z.remove(l,"weight"); show(list(l.state_dict()), l.weight)
    a,b=nn.Linear(2,3),nn.Linear(3,2)
    Z.global_unstructured([(a,"weight"),(b,"weight")],Z.L1Unstructured,amount=0.5); show(a.weight_mask,b.weight_mask)
    n=nn.Sequential(nn.Linear(2,2),nn.BatchNorm1d(2))
    pb={k:torch.ones_like(v) if v.is_floating_point() else v.clone() for k,v in n.state_dict().items()}
    show(S.functional_call(n,pb,(torch.randn(3,2),)), pb["1.running_mean"], n[1].running_mean, pb["1.num_batches_tracked"], n[1].num_batches_tracked)
    try: S.functional_call(n,{"0.weight":torch.ones(2,2),"x":torch.ones(1)},torch.ones(1,2),strict=True)
    except Exception as e: show(str(e))
    bn=nn.BatchNorm2d(3).eval(); cv=nn.Conv2d(2,3,1).eval(); show(U.fuse_conv_bn_eval(cv,bn)(torch.ones(1,2,1,1)))
    k=nn.LazyLinear(3); 
    try: k.weight.shape
    except Exception as e: show(str(e)[:40])
    k2=nn.LazyLinear(3); k(torch.ones(2,2)); k2.load_state_dict(k.state_dict()); show(repr(k2)); k2(torch.ones(2,2)); show(repr(k2))
    class B(nn.Module):
        def __init__(s): super().__init__(); s.b=nn.Buffer(torch.ones(2)); s.c=nn.Buffer(torch.ones(1),persistent=False)
    show(list(B().state_dict()))
    return found


def transformer_lines(torch):
    nn = torch.nn
    found = []

    def say(x):
        if isinstance(x, torch.Tensor):
            x = [f"{v:.2f}" for v in x.detach().reshape(-1).tolist()[:40]], tuple(x.shape)
        found.append(str(x).replace("vitrify", "torch"))

    torch.manual_seed(0)
    encoder = nn.TransformerEncoder(nn.TransformerEncoderLayer(8, 2, 16, batch_first=True), 2).eval()
    x = torch.randn(2, 4, 8)
    padding = torch.tensor([[False, False, False, True], [False, False, True, True]])
    causal = nn.Transformer.generate_square_subsequent_mask(4)
    with torch.no_grad():
        say(encoder(x, src_key_padding_mask=padding))
        say(encoder(x, src_key_padding_mask=padding.flip(1)))
        say(encoder(x, mask=causal, is_causal=True))
        say(encoder.layers[0](x, src_key_padding_mask=padding))
    say(encoder(x, src_key_padding_mask=padding))
    attention = nn.MultiheadAttention(8, 2, batch_first=True).eval()
    with torch.no_grad():
        for part in attention(x, x, x, key_padding_mask=padding):
            say(part)
        for part in attention(x, x, x, need_weights=False):
            say(part)
        say(attention(x, x, x, key_padding_mask=torch.tensor([[True] * 4, [False] * 4]))[0])
    layer = nn.TransformerDecoderLayer(8, 2, 16, batch_first=True, activation="gelu")
    decoder = nn.TransformerDecoder(layer, 2, nn.LayerNorm(8)).eval()
    say(decoder(x, x, tgt_mask=causal, tgt_is_causal=True))
    say(encoder)
    return found


STORED = pathlib.Path(__file__).parent / "nn_module_api.json"
