"""Small files in the layout of each public dataset, with made-up rows, and the sums that a reading must come to."""

from __future__ import annotations

import csv
import io

from core.times import DAY_MS, HOUR_MS, parse_iso
from tests.builders.messy_files import Truth

_V = ",".join(f"V{i}" for i in range(1, 29))
_ZEROS = ",".join(["0.1"] * 28)
_STEP = parse_iso("2026-01-01T00:00:00Z")
_IEEE = parse_iso("2017-11-30T00:00:00Z")
_AML = parse_iso("2017-01-01T00:00:00Z")

PUBLIC: dict[str, tuple[str, str, Truth]] = {
    "handbook": (
        "handbook",
        "TRANSACTION_ID,TX_DATETIME,CUSTOMER_ID,TERMINAL_ID,TX_AMOUNT,TX_TIME_SECONDS,TX_TIME_DAYS,TX_FRAUD,"
        "TX_FRAUD_SCENARIO\n"
        "0,2018-04-01 00:00:31,596,3156,57.16,31,0,0,0\n1,2018-04-01 00:02:10,4961,3412,81.51,130,0,1,1\n",
        Truth(2, 2, 138.67, 1, 0, parse_iso("2018-04-01T00:00:31"), parse_iso("2018-04-01T00:02:10")),
    ),
    "sparkov": (
        "sparkov",
        ",trans_date_trans_time,cc_num,merchant,category,amt,first,last,gender,street,city,state,zip,lat,long,city_pop,job,"
        "dob,trans_num,unix_time,merch_lat,merch_long,is_fraud\n"
        '0,2019-01-01 00:00:18,2703186189652095,"fraud_Rippin, Kub",misc_net,4.97,A,B,F,1 Road,Town,NC,28654,36.1,'
        "-81.2,3495,"
        "Clerk,1988-03-09,0b24,1325376018,36.01,-82.05,0\n"
        "1,2019-01-02 00:00:44,630423337322,fraud_Heller,grocery_pos,107.23,A,B,F,2 Road,Town,WA,99160,48.9,-118.2,149,"
        "Clerk,1978-06-21,1f76,1325376044,49.16,-118.19,1\n",
        Truth(2, 2, 112.2, 1, 0, parse_iso("2019-01-01T00:00:18"), parse_iso("2019-01-02T00:00:44")),
    ),
    "paysim": (
        "paysim",
        "step,type,amount,nameOrig,oldbalanceOrg,newbalanceOrig,nameDest,oldbalanceDest,newbalanceDest,isFraud,isFlaggedFraud\n"
        "1,PAYMENT,9839.64,C1,170136.0,160296.36,M1,0.0,0.0,0,0\n1,TRANSFER,181.0,C2,181.0,0.0,C3,0.0,0.0,1,0\n",
        Truth(2, 2, 10020.64, 1, 0, _STEP + HOUR_MS, _STEP + HOUR_MS + HOUR_MS // 2),
    ),
    "paysim with oldbalanceOrig": (
        "paysim",
        "step,type,amount,nameOrig,oldbalanceOrig,newbalanceOrig,nameDest,oldbalanceDest,newbalanceDest,isFraud\n"
        "1,PAYMENT,9839.64,C1,170136.0,160296.36,M1,0.0,0.0,0\n2,TRANSFER,181.0,C2,181.0,0.0,C3,0.0,0.0,1\n",
        Truth(2, 2, 10020.64, 1, 0, _STEP + HOUR_MS, _STEP + 2 * HOUR_MS),
    ),
    "banksim": (
        "banksim",
        "step,customer,age,gender,zipcodeOri,merchant,zipMerchant,category,amount,fraud\n"
        "0,'C1093','4','M','28007','M3489','28007','es_transportation',4.55,0\n"
        "1,'C2054','U','E','28007','M1823','28007','es_health',26.89,1\n",
        Truth(2, 2, 31.44, 1, 0, parse_iso("2012-11-01"), parse_iso("2012-11-02")),
    ),
    "creditcard": (
        "creditcard",
        f'"Time",{_V},"Amount","Class"\n0,{_ZEROS},149.62,"0"\n1.5,{_ZEROS},2.69,"1"\n',
        Truth(2, 1, 152.31, 1, 0, parse_iso("2013-09-01"), parse_iso("2013-09-01") + 1_500),
    ),
    "ieee-cis": (
        "ieee-cis",
        "TransactionID,isFraud,TransactionDT,TransactionAmt,ProductCD,card1,card2,card3,card4,card5,card6,addr1,addr2,dist1,"
        "P_emaildomain,R_emaildomain,C1,D1,M1,V1\n"
        "2987000,0,86400,68.5,W,13926,,150.0,discover,142.0,credit,315.0,87.0,19.0,,,1.0,14.0,T,1.0\n"
        "2987001,1,86401,29.0,W,2755,404.0,150.0,mastercard,102.0,credit,325.0,87.0,,gmail.com,,1.0,NaN,,\n",
        Truth(2, 2, 97.5, 1, 0, _IEEE + DAY_MS, _IEEE + DAY_MS + 1_000),
    ),
    "ieee-cis without TransactionDT": (
        "ieee-cis",
        "TransactionID,isFraud,TransactionAmt,ProductCD,card1,card4,addr1,P_emaildomain\n"
        "2987000,0,68.5,W,13926,discover,315.0,\n2987001,1,29.0,W,2755,mastercard,,gmail.com\n",
        Truth(2, 2, 97.5, 1, 0, _IEEE, _IEEE + 26_600),
    ),
    "tabformer": (
        "tabformer",
        "User,Card,Year,Month,Day,Time,Amount,Use Chip,Merchant Name,Merchant City,Merchant State,Zip,MCC,"
        "Errors?,Is Fraud?\n"
        "0,0,2002,9,1,06:21,$134.09,Swipe Transaction,3527213246127876953,La Verne,CA,91750.0,5300,,No\n"
        "0,1,2002,9,1,06:42,$-99.00,Online Transaction,-727612092139916043,ONLINE,,,5411,Bad PIN,Yes\n",
        Truth(2, 1, 233.09, 1, 0, parse_iso("2002-09-01T06:21"), parse_iso("2002-09-01T06:42")),
    ),
    "amlsim": (
        "amlsim",
        "TX_ID,SENDER_ACCOUNT_ID,RECEIVER_ACCOUNT_ID,TX_TYPE,TX_AMOUNT,TIMESTAMP,IS_FRAUD,ALERT_ID\n"
        "1,6456,9069,TRANSFER,465.05,0,False,-1\n2,7516,9543,TRANSFER,564.64,101,True,1\n",
        Truth(2, 2, 1029.69, 1, 0, _AML, _AML + 101 * DAY_MS),
    ),
    "amlsim, newer names": (
        "amlsim",
        "tran_id,orig_acct,bene_acct,tx_type,base_amt,tran_timestamp,is_sar,alert_id\n"
        "1,6456,9069,TRANSFER,465.05,2017-01-01T00:00:00Z,False,-1\n2,7516,9543,TRANSFER,564.64,2017-02-01T00:00:00Z,True,1\n",
        Truth(2, 2, 1029.69, 1, 0, _AML, _AML + 31 * DAY_MS),
    ),
    "s-ffsd": (
        "s-ffsd",
        "Time,Source,Target,Amount,Location,Type,Labels\n0,S1,T1,13.74,L100,TP100,2\n1,S2,T1,73.17,L101,TP101,1\n2,S1,T2,5,L1,TP1,0\n",
        Truth(3, 2, 91.91, 1, 1, _STEP, _STEP + 2_000),
    ),
}
"""Name → (layout, file, sums)."""


def shuffled(content: str) -> str:
    """The file with its columns backwards, their names in other cases, further columns between, and semicolons."""
    out = io.StringIO()
    writer = csv.writer(out, delimiter=";", lineterminator="\n")
    for number, row in enumerate(csv.reader(io.StringIO(content))):
        turned = row[::-1]
        if not number:
            turned = [name.lower() if place % 2 else name.upper() for place, name in enumerate(turned)]
        writer.writerow(["row" if not number else str(number), *turned, "extra" if not number else "x"])
    return out.getvalue()
