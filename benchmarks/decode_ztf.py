"""A schema with the fields of ZTF's alerts (3.3): its names, types and order, so its packets weigh and nest as the real ones do.

Fields: https://github.com/ZwickyTransientFacility/ztf-avro-alert.
"""

from typing import Any

# A field of either record: ?name = may be null; ~name = may be null in a previous candidate, but not in the candidate;
# +name = in the candidate alone.
_FIELDS: tuple[tuple[str, str], ...] = (
    ("double", "jd"),
    ("int", "fid"),
    ("long", "pid"),
    ("float", "?diffmaglim"),
    ("string", "?pdiffimfilename ?programpi"),
    ("int", "programid"),
    ("long", "~candid"),
    ("string", "~isdiffpos"),
    ("long", "?tblid"),
    ("int", "?nid ?rcid ?field"),
    ("float", "?xpos ?ypos"),
    ("double", "~ra ~dec"),
    (
        "float",
        "~magpsf ~sigmapsf ?chipsf ?magap ?sigmagap ?distnr ?magnr ?sigmagnr ?chinr ?sharpnr ?sky ?magdiff ?fwhm",
    ),
    ("float", "?classtar ?mindtoedge ?magfromlim ?seeratio ?aimage ?bimage ?aimagerat ?bimagerat ?elong"),
    ("int", "?nneg ?nbad"),
    ("float", "?rb ?ssdistnr ?ssmagnr"),
    ("string", "?ssnamenr"),
    ("float", "?sumrat ?magapbig ?sigmagapbig"),
    ("double", "~ranr ~decnr"),
    ("float", "+?sgmag1 +?srmag1 +?simag1 +?szmag1 +?sgscore1 +?distpsnr1"),
    ("int", "+ndethist +ncovhist"),
    ("double", "+?jdstarthist +?jdendhist ?scorr"),
    ("int", "+?tooflag"),
    ("long", "+?objectidps1 +?objectidps2"),
    ("float", "+?sgmag2 +?srmag2 +?simag2 +?szmag2 +?sgscore2 +?distpsnr2"),
    ("long", "+?objectidps3"),
    ("float", "+?sgmag3 +?srmag3 +?simag3 +?szmag3 +?sgscore3 +?distpsnr3"),
    ("int", "+nmtchps"),
    ("long", "+rfid"),
    ("double", "+jdstartref +jdendref"),
    ("int", "+nframesref"),
    ("string", "+rbversion"),
    ("float", "+?dsnrms +?ssnrms +?dsdiff ?magzpsci ?magzpsciunc ?magzpscirms"),
    ("int", "+nmatches"),
    ("float", "?clrcoeff ?clrcounc +?zpclrcov +?zpmed +?clrmed +?clrrms +?neargaia +?neargaiabright +?maggaia"),
    ("float", "+?maggaiabright +?exptime +?drb"),
    ("string", "+drbversion"),
)


def _field(name: str, kind: Any) -> dict[str, Any]:
    doc = f"{name} of the source, as the pipeline of difference images gives it"  # real headers are long: about 15 kB
    field = {"name": name, "type": kind, "doc": doc}
    return field | {"default": None} if isinstance(kind, list) else field


def _candidate(previous: bool) -> dict[str, Any]:
    fields = []
    for kind, names in _FIELDS:
        for marked in names.split():
            name = marked.lstrip("+?~")
            if previous and "+" in marked:
                continue
            null = "?" in marked or (previous and "~" in marked)
            fields.append(_field(name, ["null", kind] if null else kind))
    return {"type": "record", "name": "prv_candidate" if previous else "candidate", "fields": fields}


def ztf_schema() -> dict[str, Any]:
    """The schema of a packet."""
    cutout = {
        "type": "record",
        "name": "cutout",
        "fields": [_field("fileName", "string"), _field("stampData", "bytes")],
    }
    fields = [_field(name, "string") for name in ("schemavsn", "publisher", "objectId")]
    fields += [_field("candid", "long"), _field("candidate", _candidate(False))]
    fields += [_field("prv_candidates", ["null", {"type": "array", "items": _candidate(True)}])]
    for name, kind in (("Science", cutout), ("Template", "cutout"), ("Difference", "cutout")):
        fields.append(_field(f"cutout{name}", ["null", kind]))
    return {"type": "record", "name": "alert", "namespace": "ztf", "fields": fields}
