"""What the generated exchange lists: names and round reference prices in rupees. Pure data.

The names are those of real underlyings; the prices are invented round figures near where they traded in early 2026.
Exception: RELIANCE stands near 2,640, as the user's examples have it.
"""

from __future__ import annotations

from dataclasses import dataclass

from app.core.ids import Exchange

TUESDAY, THURSDAY, FRIDAY = 1, 3, 4


@dataclass(frozen=True, slots=True)
class IndexSpec:
    """An index with derivatives. ``weekly`` says how many weeklies are listed at a time."""

    symbol: str
    exchange: Exchange
    weekday: int
    price: float
    step: float
    lot: int
    future_tick_paise: float
    exchange_id: int  # what the derivatives call their underlying; never the index row's id (protocol notes, 4.4)
    weekly: int = 0


INDICES = (
    IndexSpec("NIFTY", Exchange.NSE, TUESDAY, 25_000, 50, 65, 10, 26000, weekly=8),
    IndexSpec("BANKNIFTY", Exchange.NSE, TUESDAY, 58_000, 100, 30, 20, 26009),
    IndexSpec("FINNIFTY", Exchange.NSE, TUESDAY, 27_000, 50, 60, 10, 26037),
    IndexSpec("MIDCPNIFTY", Exchange.NSE, TUESDAY, 13_500, 25, 120, 5, 26074),
    IndexSpec("NIFTYNXT50", Exchange.NSE, TUESDAY, 68_000, 100, 25, 20, 26013),
    IndexSpec("SENSEX", Exchange.BSE, THURSDAY, 82_000, 100, 20, 5, 1, weekly=8),
    IndexSpec("BANKEX", Exchange.BSE, THURSDAY, 64_000, 100, 30, 5, 12),
    IndexSpec("SENSEX50", Exchange.BSE, THURSDAY, 26_500, 50, 75, 5, 47),
)

# exchange, id, symbol, display name, tick in rupees
INDEX_ROWS = (
    ("NSE", 13, "NIFTY", "Nifty 50", "0.0500"),
    ("NSE", 25, "BANKNIFTY", "Nifty Bank", "0.0500"),
    ("NSE", 27, "FINNIFTY", "Finnifty", "0.0500"),
    ("NSE", 442, "MIDCPNIFTY", "Nifty Midcap Select", "0.0500"),
    ("NSE", 38, "NIFTY NEXT 50", "Nifty Next 50", "0.0500"),
    ("NSE", 21, "INDIA VIX", "India VIX", "0.0500"),
    ("NSE", 29, "NIFTYIT", "Nifty IT", "0.0500"),
    ("NSE", 17, "NIFTY 100", "NIFTY 100", "0.0500"),
    ("NSE", 18, "NIFTY 200", "NIFTY 200", "0.0500"),
    ("NSE", 19, "NIFTY 500", "NIFTY 500", "0.0500"),
    ("NSE", 28, "NIFTY FMCG", "NIFTY FMCG", "0.0500"),
    ("NSE", 31, "NIFTY METAL", "NIFTY Metal", "0.0500"),
    ("NSE", 32, "NIFTY PHARMA", "NIFTY Pharma", "0.0500"),
    ("NSE", 816, "Nifty IPO", "Nifty IPO", "0.0500"),
    ("NSE", 5024, "GIFTNIFTY", "Gift Nifty", "0.0000"),
    ("BSE", 51, "SENSEX", "Sensex", "0.0100"),
    ("BSE", 69, "BANKEX", "BSE BANKEX", "0.0100"),
    ("BSE", 83, "SNSX50", "BSE Sensex 50", "0.0100"),
    ("BSE", 65, "BSE100", "BSE 100", "0.0100"),
    ("BSE", 75, "METAL", "BSE Metals", "0.0100"),
    # One index listed twice, as on the real exchange.
    ("BSE", 99, "CAPINS", "BSE Capital Markets & Insurance", "0.0100"),
    ("BSE", 846, "CAPINS", "BSE Capital Goods Industrial Solutions", "0.0100"),
)


@dataclass(frozen=True, slots=True)
class CommoditySpec:
    """A commodity of MCX. ``months`` are those its futures expire in, around day ``day`` (31: the month's last
    working day). Options expire ``lead`` working days before day ``option_day`` of a month; 0: no options."""

    symbol: str
    product: int  # MCX's product code, what its rows call their underlying
    price: float
    step: float
    wing: int  # strikes on each side of the reference price
    months: tuple[int, ...]
    day: int
    listed: int  # futures listed at a time
    future_tick_paise: float
    option_tick_paise: float = 0.0
    option_day: int = 0
    lead: int = 0
    option_expiries: int = 0


_EVERY = tuple(range(1, 13))
_EVEN = (2, 4, 6, 8, 10, 12)
COMMODITIES = (
    CommoditySpec("GOLD", 114, 150_000, 100, 480, _EVEN, 5, 6, 100, 50, 31, 2, 10),
    CommoditySpec("SILVER", 115, 260_000, 250, 480, (3, 5, 7, 9, 12), 5, 5, 100, 50, 27, 1, 10),
    CommoditySpec("CRUDEOIL", 294, 5_800, 50, 90, _EVERY, 19, 6, 100, 10, 19, 2, 3),
    CommoditySpec("NATURALGAS", 401, 320, 5, 56, _EVERY, 26, 6, 10, 5, 26, 2, 3),
    CommoditySpec("COPPER", 117, 1_250, 5, 60, _EVERY, 31, 5, 5, 1, 23, 0, 4),
    CommoditySpec("GOLDM", 116, 150_000, 100, 0, _EVERY, 5, 6, 100),
    CommoditySpec("SILVERM", 122, 260_000, 250, 0, (2, 4, 6, 8, 11), 31, 5, 100),
    CommoditySpec("CRUDEOILM", 295, 5_800, 50, 0, _EVERY, 19, 6, 100),
    CommoditySpec("NATGASMINI", 402, 320, 5, 0, _EVERY, 26, 6, 10),
    CommoditySpec("ZINC", 118, 320, 2.5, 0, _EVERY, 31, 5, 5),
    CommoditySpec("ALUMINIUM", 119, 310, 2.5, 0, _EVERY, 31, 5, 5),
    CommoditySpec("LEAD", 121, 190, 1, 0, _EVERY, 31, 5, 5),
)

# symbol, reference price, strike step, tick in paise, underlying id on NSE and on BSE
CURRENCIES = (
    ("USDINR", 90.0, 0.25, 0.25, 22, 600),
    ("EURINR", 105.0, 0.25, 0.25, 25, 602),
    ("GBPINR", 121.0, 0.25, 0.25, 24, 601),
    ("JPYINR", 58.0, 0.25, 0.25, 23, 603),
)

KNOWN_IDS = {
    "RELIANCE": (2885, 500325),
    "ABB": (13, 500002),
    "ADANIENT": (25, 512599),
    "HDFCBANK": (1333, 500180),
    "TCS": (11536, 532540),
    "INFY": (1594, 500209),
    "SBIN": (3045, 500112),
    "ICICIBANK": (4963, 532174),
    "ITC": (1660, 500875),
    "EICHERMOT": (910, 505200),
}
"""Ids on NSE and BSE that are real: 13 and 25 are also NIFTY and BANKNIFTY in their own segment."""

_STOCKS = """
360ONE|360 One WAM|1150
ABB|ABB India|5200
ABCAPITAL|Aditya Birla Capital|350
ADANIENSOL|Adani Energy Solutions|980
ADANIENT|Adani Enterprises|2200
ADANIGREEN|Adani Green Energy|1000
ADANIPORTS|Adani Ports & SEZ|1450
ALKEM|Alkem Laboratories|5600
AMBER|Amber Enterprises|6500
AMBUJACEM|Ambuja Cements|540
ANGELONE|Angel One|2500
APLAPOLLO|APL Apollo Tubes|1900
APOLLOHOSP|Apollo Hospitals|7300
ASHOKLEY|Ashok Leyland|185
ASIANPAINT|Asian Paints|2600
ASTRAL|Astral|1480
AUBANK|AU Small Finance Bank|980
AUROPHARMA|Aurobindo Pharma|1180
AXISBANK|Axis Bank|1300
BAJAJ-AUTO|Bajaj Auto|9400
BAJAJFINSV|Bajaj Finserv|2000
BAJAJHLDNG|Bajaj Holdings & Investment|11000
BAJFINANCE|Bajaj Finance|960
BANDHANBNK|Bandhan Bank|155
BANKBARODA|Bank of Baroda|295
BANKINDIA|Bank of India|148
BDL|Bharat Dynamics|1480
BEL|Bharat Electronics|420
BHARATFORG|Bharat Forge|1420
BHARTIARTL|Bharti Airtel|2000
BHEL|BHEL|270
BIOCON|Biocon|370
BLUESTARCO|Blue Star|1800
BOSCHLTD|Bosch|37000
BPCL|Bharat Petroleum|360
BRITANNIA|Britannia Industries|5900
BSE|BSE|2700
CAMS|Computer Age Management Services|720
CANBK|Canara Bank|150
CDSL|Central Depository Services|1400
CGPOWER|CG Power & Industrial Solutions|660
CHOLAFIN|Cholamandalam Investment & Finance|1700
CIPLA|Cipla|1450
COALINDIA|Coal India|425
COFORGE|Coforge|1700
COLPAL|Colgate Palmolive|2150
CONCOR|Container Corporation of India|510
CROMPTON|Crompton Greaves Consumer Electricals|250
CUMMINSIND|Cummins India|4400
CYIENT|Cyient|1150
DABUR|Dabur India|520
DALBHARAT|Dalmia Bharat|2100
DELHIVERY|Delhivery|410
DIVISLAB|Divis Laboratories|6300
DIXON|Dixon Technologies|11500
DLF|DLF|660
DMART|Avenue Supermarts|3800
DRREDDY|Dr Reddys Laboratories|1240
EICHERMOT|Eicher Motors|7200
ETERNAL|Eternal|280
EXIDEIND|Exide Industries|340
FEDERALBNK|Federal Bank|270
FORTIS|Fortis Healthcare|880
GAIL|GAIL|168
GLENMARK|Glenmark Pharmaceuticals|1980
GMRAIRPORT|GMR Airports|100
GODREJCP|Godrej Consumer Products|1180
GODREJPROP|Godrej Properties|1900
GRASIM|Grasim Industries|2800
HAL|Hindustan Aeronautics|4400
HAVELLS|Havells India|1420
HCLTECH|HCL Technologies|1660
HDFCAMC|HDFC AMC|2600
HDFCBANK|HDFC Bank|980
HDFCLIFE|HDFC Life Insurance|750
HEROMOTOCO|Hero MotoCorp|5700
HFCL|HFCL|70
HINDALCO|Hindalco Industries|930
HINDPETRO|Hindustan Petroleum|460
HINDUNILVR|Hindustan Unilever|2400
HINDZINC|Hindustan Zinc|600
HUDCO|HUDCO|220
ICICIBANK|ICICI Bank|1380
ICICIGI|ICICI Lombard|1920
ICICIPRULI|ICICI Prudential Life|640
IDEA|Vodafone Idea|11
IDFCFIRSTB|IDFC First Bank|82
IEX|Indian Energy Exchange|135
IIFL|IIFL Finance|560
INDHOTEL|Indian Hotels|690
INDIANB|Indian Bank|860
INDIGO|InterGlobe Aviation|4900
INDUSINDBK|IndusInd Bank|900
INDUSTOWER|Indus Towers|430
INFY|Infosys|1600
INOXWIND|Inox Wind|120
IOC|Indian Oil Corporation|168
IRCTC|IRCTC|640
IREDA|IREDA|135
IRFC|Indian Railway Finance|118
ITC|ITC|325
JINDALSTEL|Jindal Steel|1080
JIOFIN|Jio Financial Services|260
JSWENERGY|JSW Energy|480
JSWSTEEL|JSW Steel|1180
JUBLFOOD|Jubilant Foodworks|520
KALYANKJIL|Kalyan Jewellers|440
KAYNES|Kaynes Technology|3900
KEI|KEI Industries|4200
KFINTECH|KFin Technologies|1050
KOTAKBANK|Kotak Mahindra Bank|420
KPITTECH|KPIT Technologies|1100
LAURUSLABS|Laurus Labs|1020
LICHSGFIN|LIC Housing Finance|530
LICI|Life Insurance Corporation|840
LODHA|Lodha Developers|1000
LT|Larsen & Toubro|3900
LTF|L&T Finance|290
LTIM|LTIMindtree|5900
LUPIN|Lupin|2150
M&M|Mahindra & Mahindra|3500
MANAPPURAM|Manappuram Finance|295
MANKIND|Mankind Pharma|2150
MARICO|Marico|740
MARUTI|Maruti Suzuki|14800
MAXHEALTH|Max Healthcare|1040
MAZDOCK|Mazagon Dock Shipbuilders|2450
MCX|Multi Commodity Exchange|2400
MFSL|Max Financial Services|1660
MOTHERSON|Samvardhana Motherson|118
MPHASIS|Mphasis|2750
MUTHOOTFIN|Muthoot Finance|3800
NATIONALUM|National Aluminium|360
NAUKRI|Info Edge|1300
NBCC|NBCC|105
NCC|NCC|155
NESTLEIND|Nestle India|1280
NHPC|NHPC|80
NMDC|NMDC|82
NTPC|NTPC|350
NUVAMA|Nuvama Wealth Management|1420
NYKAA|FSN E-Commerce Ventures|255
OBEROIRLTY|Oberoi Realty|1560
OFSS|Oracle Financial Services|7700
OIL|Oil India|460
ONGC|ONGC|260
PAGEIND|Page Industries|34000
PATANJALI|Patanjali Foods|530
PAYTM|One 97 Communications|1200
PERSISTENT|Persistent Systems|6000
PETRONET|Petronet LNG|290
PFC|Power Finance Corporation|390
PGEL|PG Electroplast|580
PHOENIXLTD|Phoenix Mills|1760
PIDILITIND|Pidilite Industries|1480
PIIND|PI Industries|3200
PNB|Punjab National Bank|125
PNBHOUSING|PNB Housing Finance|860
POLICYBZR|PB Fintech|1640
POLYCAB|Polycab India|7400
POWERGRID|Power Grid Corporation|270
POWERINDIA|Hitachi Energy India|19000
PPLPHARMA|Piramal Pharma|160
PREMIERENE|Premier Energies|800
PRESTIGE|Prestige Estates|1500
RBLBANK|RBL Bank|310
RECLTD|REC|370
RELIANCE|Reliance Industries|2640
RVNL|Rail Vikas Nigam|330
SAIL|Steel Authority of India|150
SAMMAANCAP|Sammaan Capital|150
SBICARD|SBI Cards|780
SBILIFE|SBI Life Insurance|2020
SBIN|State Bank of India|1060
SHREECEM|Shree Cement|27000
SHRIRAMFIN|Shriram Finance|1000
SIEMENS|Siemens|3100
SOLARINDS|Solar Industries|13500
SONACOMS|Sona BLW Precision Forgings|500
SRF|SRF|2800
SUNPHARMA|Sun Pharmaceutical|1640
SUPREMEIND|Supreme Industries|3600
SUZLON|Suzlon Energy|48
SWIGGY|Swiggy|330
SYNGENE|Syngene International|490
TATACONSUM|Tata Consumer Products|1140
TATAELXSI|Tata Elxsi|5400
TATAPOWER|Tata Power|370
TATASTEEL|Tata Steel|190
TATATECH|Tata Technologies|640
TCS|Tata Consultancy Services|3100
TECHM|Tech Mahindra|1680
TIINDIA|Tube Investments|2500
TITAN|Titan Company|4000
TMPV|Tata Motors Passenger Vehicles|360
TORNTPHARM|Torrent Pharmaceuticals|3900
TORNTPOWER|Torrent Power|1360
TRENT|Trent|3900
TVSMOTOR|TVS Motor Company|3700
ULTRACEMCO|UltraTech Cement|12600
UNIONBANK|Union Bank of India|170
UNITDSPR|United Spirits|1380
UNOMINDA|Uno Minda|1220
UPL|UPL|720
VBL|Varun Beverages|480
VEDL|Vedanta|660
VOLTAS|Voltas|1440
WIPRO|Wipro|240
YESBANK|Yes Bank|22
ZYDUSLIFE|Zydus Lifesciences|900
"""


@dataclass(frozen=True, slots=True)
class StockSpec:
    """A share with derivatives on both exchanges."""

    symbol: str
    name: str
    price: float
    step: float
    lot: int
    tick_paise: float
    nse_id: int
    bse_id: int


# reference price below, strike step
_STEPS = ((30, 0.5), (60, 1), (150, 1), (350, 2.5), (700, 5), (1500, 10), (4000, 20), (8000, 50), (20_000, 100))
_TICKS = ((250, 1), (1000, 5), (5000, 10), (10_000, 50), (20_000, 100))


def stocks() -> tuple[StockSpec, ...]:
    """The shares with derivatives, by symbol."""
    found = []
    for place, line in enumerate(_STOCKS.strip().splitlines()):
        symbol, name, text = line.split("|")
        price = float(text)
        nse_id, bse_id = KNOWN_IDS.get(symbol, (30_000 + place, 560_000 + place))
        step = next((step for below, step in _STEPS if price < below), 250.0)
        tick = next((tick for below, tick in _TICKS if price < below), 500.0)
        lot = max(25, round(750_000 / price / 25) * 25)
        found.append(StockSpec(symbol, name, price, step, lot, tick, nse_id, bse_id))
    return tuple(found)


def reference_prices() -> dict[str, float]:
    """Where each underlying stands at the start of a simulation, in rupees, by symbol."""
    prices = {spec.symbol: float(spec.price) for spec in INDICES}
    prices |= {spec.symbol: float(spec.price) for spec in COMMODITIES}
    prices |= {spec.symbol: spec.price for spec in stocks()}
    indices = {"NIFTY NEXT 50": prices["NIFTYNXT50"], "SNSX50": prices["SENSEX50"], "INDIA VIX": 13.0}
    return prices | indices | {symbol: price for symbol, price, *_ in CURRENCIES}
