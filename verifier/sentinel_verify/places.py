"""Where countries are: approximate centres in whole degrees, for the features of travel."""

from math import cos, radians, sin, sqrt

# ISO 3166-1 alpha-2: latitude, longitude.
_CENTRES = """
AD 43 2;AE 24 54;AF 34 66;AG 17 -62;AI 18 -63;AL 41 20;AM 40 45;AO -12 18;AR -35 -65;AT 47 14;AU -25 134;AW 13 -70;
AZ 40 48;BA 44 18;BB 13 -60;BD 24 90;BE 51 5;BF 12 -2;BG 43 25;BH 26 51;BI -3 30;BJ 9 2;BM 32 -65;BN 5 115;BO -17 -65;
BR -10 -53;BS 24 -76;BT 27 90;BW -22 24;BY 53 28;BZ 17 -89;CA 57 -100;CD -3 24;CF 7 21;CG -1 15;CH 47 8;CI 8 -6;
CL -31 -71;CM 6 13;CN 36 104;CO 4 -73;CR 10 -84;CU 22 -79;CV 16 -24;CW 12 -69;CY 35 33;CZ 50 15;DE 51 10;DJ 12 43;
DK 56 10;DM 15 -61;DO 19 -71;DZ 28 3;EC -1 -78;EE 59 26;EG 27 30;ER 15 39;ES 40 -4;ET 9 40;FI 64 26;FJ -18 178;
FO 62 -7;FR 47 2;GA -1 12;GB 54 -2;GD 12 -62;GE 42 43;GF 4 -53;GH 8 -1;GI 36 -5;GL 72 -40;GM 13 -15;GN 11 -11;
GP 16 -62;GQ 2 10;GR 39 22;GT 16 -90;GU 13 145;GW 12 -15;GY 5 -59;HK 22 114;HN 15 -87;HR 45 16;HT 19 -73;HU 47 19;
ID -2 118;IE 53 -8;IL 31 35;IM 54 -5;IN 23 80;IQ 33 44;IR 32 54;IS 65 -19;IT 43 12;JE 49 -2;JM 18 -77;JO 31 37;
JP 37 138;KE 1 38;KG 41 75;KH 13 105;KI 2 -157;KM -12 44;KN 17 -63;KP 40 127;KR 36 128;KW 29 48;KY 19 -81;KZ 48 67;
LA 18 104;LB 34 36;LC 14 -61;LI 47 10;LK 8 81;LR 6 -9;LS -30 28;LT 55 24;LU 50 6;LV 57 25;LY 27 18;MA 32 -6;
MC 44 7;MD 47 28;ME 43 19;MG -19 47;MK 42 22;ML 17 -4;MM 21 96;MN 47 103;MO 22 114;MQ 15 -61;MR 20 -10;MT 36 14;
MU -20 58;MV 3 73;MW -13 34;MX 24 -102;MY 4 109;MZ -17 36;NA -22 17;NC -21 166;NE 17 9;NG 10 8;NI 13 -85;NL 52 5;
NO 65 14;NP 28 84;NR -1 167;NZ -42 172;OM 21 56;PA 8 -80;PE -9 -75;PF -18 -149;PG -6 144;PH 12 123;PK 30 69;PL 52 19;
PR 18 -66;PS 32 35;PT 40 -8;PW 7 134;PY -23 -58;QA 25 51;RE -21 56;RO 46 25;RS 44 21;RU 62 97;RW -2 30;SA 24 45;
SB -9 160;SC -5 55;SD 16 30;SE 63 17;SG 1 104;SI 46 15;SK 49 20;SL 9 -12;SM 44 12;SN 14 -14;SO 5 46;SR 4 -56;
SS 7 30;ST 0 7;SV 14 -89;SY 35 38;SZ -27 31;TC 22 -72;TD 15 19;TG 9 1;TH 15 101;TJ 39 71;TL -9 126;TM 39 59;
TN 34 10;TO -20 -175;TR 39 35;TT 10 -61;TV -8 178;TW 24 121;TZ -6 35;UA 49 31;UG 1 32;US 40 -98;UY -33 -56;UZ 42 63;
VA 42 12;VC 13 -61;VE 7 -66;VG 18 -65;VI 18 -65;VN 16 106;VU -16 167;WS -14 -172;XK 43 21;YE 16 48;ZA -29 25;
ZM -13 28;ZW -19 30
"""


def _vector(latitude: str, longitude: str) -> tuple[float, float, float]:
    """On the unit sphere, to six decimals, which hides differences between C libraries in the last bit."""
    p, q = radians(int(latitude)), radians(int(longitude))
    return round(cos(p) * cos(q), 6), round(cos(p) * sin(q), 6), round(sin(p), 6)


CENTRES = {code: _vector(*place) for code, *place in map(str.split, _CENTRES.replace("\n", "").split(";"))}


def km_between(one: str, other: str) -> float:
    """A straight line between the centres of two countries; 6,371 km is the Earth's mean radius."""
    (a, b, c), (d, e, f) = CENTRES[one], CENTRES[other]
    return 6371.0 * sqrt((a - d) * (a - d) + (b - e) * (b - e) + (c - f) * (c - f))
